"""From results to tables, plots and pages."""
