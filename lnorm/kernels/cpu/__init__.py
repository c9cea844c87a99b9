"""The kernels in numba, on two-dimensional NumPy arrays. Importing one of these modules imports numba."""
