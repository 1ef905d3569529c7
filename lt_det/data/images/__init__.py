"""Images to classify: data sets, long-tailed subsets and transforms."""
