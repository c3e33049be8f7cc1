"""What a step of training optimises: masked next tokens, contrast, distillation."""
