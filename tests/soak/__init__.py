"""
The soak: many clients, deliveries and faults at the same time, and a ledger of what became of every message.

    letters     messages that are known again wherever they turn up
    ledger      what was promised to whom, and the rules that tell whether it was kept
    stores      mail seen behind the server's back, and put there
    world       the server, its database, its disk that becomes full, and its clock
    session     what a client says to the server, and to the ledger
    clients     sessions of mixed kinds
    deliverers  who brings mail
    faults      what goes wrong, and when
    report      what is printed
    run         all of it, in order

C{python -m tests.soak --help}; see docs/soak.md.
"""
