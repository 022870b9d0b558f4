//! Reduce kernels (to come)
