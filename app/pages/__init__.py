"""What the HTML pages share: parts, style, data, plots."""
