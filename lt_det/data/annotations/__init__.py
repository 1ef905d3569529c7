"""Annotation files of detection: reading, checking and registering LVIS and COCO format."""
