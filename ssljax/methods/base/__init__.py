"""What methods share: networks, teachers and the checks made before training. No method of its own."""
