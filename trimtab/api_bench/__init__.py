"""How fast the API answers people: reads and changes at a fixed rate, while events travel to many open streams."""
