"""The decisions: pure functions from the time and immutable facts to a value that says what to do. Imports the model only."""
