"""
The soak: many clients, deliveries and faults at the same time, and a ledger of what became of every message.

    letters     messages that are known again wherever they turn up
    ledger      what was promised to whom, and the rules that tell whether it was kept
    stores      mail in files seen behind the server's back, and put there
    tables      the same in databases
    boxes       mailboxes and accounts
    sites       the servers
    world       what they share: the database, the disk that becomes full, and the clock
    session     what a client says to the server, and to the ledger
    clients     sessions of mixed kinds
    deliverers  who brings mail
    faults      what goes wrong, and when
    gauges      what the processes hold
    report      what is printed
    run         all of it, in order

C{python -m tests.soak --help}; see docs/soak.md.
"""
