"""What training reads: photographs to train on, weights to start from, crops to calibrate on."""
