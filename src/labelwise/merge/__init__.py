"""What several people's answers are worth together: one rule per file, from columns of opinions to class posteriors."""
