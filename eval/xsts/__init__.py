"""Human evaluation: XSTS ratings in, calibrated scores with intervals out."""
