"""Verified fakes, held to the same contract suites as the real adapters. Imports model, interfaces and util."""
