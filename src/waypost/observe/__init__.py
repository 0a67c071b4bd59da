"""What Waypost says about itself: one record per mail event, operational records, metrics. Never content or secrets."""
