"""What a GPU has to show: correctness against the CPU, speed against Detectron2."""
