"""What the world says of models: context windows, capabilities, prices."""
