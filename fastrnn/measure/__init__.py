"""Measuring the kernels' speed."""
