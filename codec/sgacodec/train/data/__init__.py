"""What training reads: photographs, and weights to start from."""
