"""Jobs of a machine's service manager: its files (systemd, launchd, cron) and its commands."""
