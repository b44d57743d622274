"""Jobs that a machine's service manager starts: what it reads (systemd, launchd, cron), and how it is told."""
