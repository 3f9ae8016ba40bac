"""Human evaluation: checks and calibrated scores of XSTS ratings."""
