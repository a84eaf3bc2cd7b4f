"""Sources and normalisation: from raw records to Alerts."""
