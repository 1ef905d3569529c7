"""Post-processing: from scores and boxes to detections."""
