"""ROI heads: box predictors, box regression and mask head of R-CNN."""
