"""Generalisation bounds of one trained network: on one scale with the measured gap, vacuous ones said to be so."""
