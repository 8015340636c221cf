"""Images and labels on the training device."""
