"""What an evaluation says beside AP: errors, confusion, calibration, thresholds, intervals."""
