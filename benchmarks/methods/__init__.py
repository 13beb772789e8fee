"""The training of fastrnn.measure.methods in other frameworks.

Each method is the fastest form of its kind that we found; what was tried and lost is said beside
it.
"""
