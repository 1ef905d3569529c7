"""Region features: computed once by the frozen detector, stored, and trained on."""
