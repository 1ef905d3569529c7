"""Prediction on images of a user: pictures, a json of detections, a csv of classes."""
