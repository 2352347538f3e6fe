"""The processes of the control plane itself: who leads, who is alive, which periodic slot is taken."""
