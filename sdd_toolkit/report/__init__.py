"""The HTML report of alignment statistics with figures and pictures: `sdd report`."""
