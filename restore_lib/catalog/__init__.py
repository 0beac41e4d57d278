"""Where everything is: tables, queries and migrations, on SQLite or PostgreSQL."""
