"""Epochs of updates over a text, and those who look on."""
