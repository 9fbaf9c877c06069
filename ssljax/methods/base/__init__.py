"""What methods share: networks, accumulation, teachers and the checks made before training. No method of its own."""
