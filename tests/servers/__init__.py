"""Real database servers of our own, a relay that goes wrong, and what speaks to them."""
