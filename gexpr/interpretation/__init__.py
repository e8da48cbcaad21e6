"""What single bases do to a prediction: saturation mutagenesis and gradients."""
