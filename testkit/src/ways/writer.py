"""Writes a row every 20 ms and says what became of it, one line each:

A SECONDS ROW          acknowledged
E SECONDS WHAT TEXT    an error; WHAT is connect or write

Arguments: driver (psycopg or psycopg2), connection string, name of the way.
"""

import importlib
import sys
import time


def say(kind, *words):
    print(kind, f"{time.monotonic():.6f}", *words, flush=True)


def connect(driver, dsn):
    connection = driver.connect(dsn)
    connection.autocommit = True
    return connection


def main(name, dsn, way):
    driver = importlib.import_module(name)
    connection = None
    row = 0
    while True:
        doing = "connect"
        row += 1
        try:
            if connection is None:
                connection = connect(driver, dsn)
            doing = "write"
            with connection.cursor() as cursor:
                cursor.execute("insert into clients values (%s, %s)", (way, row))
            say("A", row)
            time.sleep(0.02)
        except driver.Error as error:
            say("E", doing, " ".join(str(error).split()) or type(error).__name__)
            if connection is not None:
                connection.close()
            connection = None
            # As a patient application does.
            time.sleep(0.1)


main(*sys.argv[1:])
