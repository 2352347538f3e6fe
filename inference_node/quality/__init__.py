"""How much another precision or pruning level changes what the model says, measured on text that nothing was calibrated on."""
