"""Training: data order, the step, the runners, distribution. The only user of fairseq2."""
