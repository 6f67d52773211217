"""What Postfix and other mail transfer agents ask: may this client relay?"""
