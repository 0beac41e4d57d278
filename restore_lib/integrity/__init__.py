"""Finding loss in live data, and proving that media are readable."""
