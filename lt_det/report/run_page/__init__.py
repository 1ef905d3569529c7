"""Page of evaluated runs: where the numbers are from, what they say, how sure that is."""
