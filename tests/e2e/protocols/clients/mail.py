"""smtplib: what the server says to each step of two messages and of a refused one."""

import smtplib

with smtplib.SMTP(timeout=20, local_hostname="client.test") as mail:
    print(mail.connect("mail.test", 25))
    print(mail.ehlo())
    for length in (10, 1_000_000):
        print(mail.mail("a@client.test"), mail.rcpt("b@mail.test"), mail.rcpt("c@mail.test"))
        print(mail.data("Subject: to be compared\r\n\r\n" + "a line of it\r\n.\r\n" * (length // 17)))
    print(mail.mail("a@client.test"), mail.rcpt("nobody@mail.test"))
    print(mail.quit())
