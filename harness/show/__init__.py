"""What people see: terminal, figures, report."""
