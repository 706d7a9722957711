"""Quality measures of a pair and the rules that filter pairs: `sdd filter`."""
