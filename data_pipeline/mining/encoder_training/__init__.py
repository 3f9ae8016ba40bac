"""Training of sentence encoders: contrastive training and distillation of students."""
