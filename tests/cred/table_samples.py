"""
Small tables that the real libraries have made: Berkeley DB 5.3 with pages of 512 octets, LMDB 0.9, GNU dbm 1.23.

Each has the keys user0, user1, ... with the values "secret 0", "secret 1", ..., and "long" with a long value of "x";
those of Berkeley DB and LMDB have a NUL behind each.
"""

from __future__ import annotations

import base64
import zlib


def _unpacked(text: str) -> bytes:
    return zlib.decompress(base64.b64decode("".join(text.split())))


HASH = _unpacked(
    """
    eNrtl01IVFEYhr937vw4TbaQAmmIJjIYHcQ55+r4g/1BtbZdIUqhUpAVjNMPMlNuCgr/aqFWkkIRhpCuCtrprihwYqQWSa20VUHSIoPojPebe+
    6YLtoFzmFm7r3vnO+773uew3CHiAhkjdM7vOTPnrjUu8jSvPT3mD20h+g30VASk8unLA2OPtlRrt7pvrOta/XC+P/GWkYVlCQqXsFXLGEB83iN
    WbzAFB5jFHdwC9dwGefQhhNowlHsh0QFdqMU2+DFL1qmL/SZ5uktzdJLmqIJekjD1Ec3s13z79vV0RbvSITqCZe6OuL1tlBrCbW2UGMJNbZg1l
    lK9piTYizFtFTNUrWWJEtSS1GWolpixRYke5TapGSXUtuU7FNqo5JbSUcvwZKwJcFxhI4jOI7QcQTHETqO4DhCxxEcR+g4fENBxlBk0VArv+BR
    q9958cIZm7/LwSVM/Yr/T3xT/D8ig1eYwXM8wyM8wKDifx1X0Il2nMRxHMMBmIggpPgXw4MV+k5L9Iky9IZmFP9pekpjNKI6DtCNDTcg+6yzTy
    zDejV4MfRa8FI4wDIhUxMymZCpCZlMyHRspRxsTcjkBTM1IcmWpPYk2ZTUriTbktqXZEJSE5JMSGpCuUkaGccROo7gOELHERxH6DiC4wgdR+T4
    6zjsIGrzNxiFe/V6EeS7WhibYOT4u3kPeAr8NyV/D+8Bb4H/puTv5T1gXUfoX/irknhR7qNfdetqUic99KOU/NvnimpH9k0IdVCvaa917Dn8Ib
    B1IHY7Nrh3OHw3PFI91nC/4V7jaOP7YOW7YGU6WJUJVqVLopmSaDogMgEx5xbxMtW029faHPK3RMq6S8KrZxXl4YMNza0h/5aW8jbnQ6yPf9CW
    e5U6TO1IIeH4enzdPyXtriQ9UY9Ck/bjUIoSbkeVsV6VqlHdJu2OKVfSdYRazqeMJHqMpJFCry9pjLvXrUV+bRy9u5LYYK6xZq7VuyYR0HMSxc
    7eqiIvTX698rjzDxEsE/A=
    """
)

HASH_BIG_ENDIAN = _unpacked(
    """
    eNrtlj1oFFEUhc/JZkctYifYGTvNNnvvy29hSKO1dtoEJC4GDQqJf4VoZSTFJoqggqKFFtoYKwXBItspWgSSzmCqbKoIWhlBnGTuzJ1ILOwCOx
    d2dvZjeXPO+14xwOZw8xrtOx1f9wBtwG6kE+GvaQwdBH4D78/dXr7XZIqZrZPM4eHR+vw2vJidN1sddeE6OrjONTa5xEV+ZINvOcvnfMy7nOIN
    XuF5jvAkj/Moj1DZxQPcz72M8As/sIplLOIzGniHWbzAEzxAHZPxqlsfOlEbGa9d6hwAL0/Uxgcy0JeAvgz0JKAnA6E/IRvfKeo11Ouo21C3Iz
    WkjqqGqo6MZEAto3pItZTqMdVyqgdVW0pza4khyZBYHfE6YnXE64jVEa8jVke8jlgd8Tr2QEHpfmUl3vgSUF7i2MULZ/P+2zIxhzAd+//Jb7H/
    L1zgB87xDV/xGR/xTuz/Jq9yjGd4iid4jIMMrLAz9t/BMtbxHU18xQI+YS72/xov8RQPMT2DW/88fZazP7tJAvtu2Gb4XthW5MSaoeCGghkKbi
    iYoZA7SqlsNxRsw4IbUouknkktlHoqtVjqudQMqRtSM6RuKP2TK7M64nXE6ojXEasjXkesjngdSf17HUtQzfsv2X07yBXsulZMC0zOf7udgXLh
    vyX9l+0MRIX/lvQf2RnY+FX5H//bvvzHn/n66HDx8r+z5w+Ju9OX
    """
)

BTREE = _unpacked(
    """
    eNrtmD9oFEEUxr/v/uRyQSRlEIsIKQQtdmf37vbAIqCFhYWFhUWKYDxMEWK4JHBCBIUgKRQtAlqIpAiYQjCFRZAUIaRIcYKFQgqFFEFSCqZTxN
    ndmbs3wT+oIIbchLvd+X47d3PvezNvCAAQabvi51GMbzL6VUw1c3Ha+uAJ4Ctw9svNp8F4tqVnzLVffGan/f+N+/zKYYWZ7B632eQKc9zDLrbQ
    xCqWsYB5zKKBUWxo9owLnOccZzjBq7zMCxxkyJM8zt59CdADTtZG6rWpfr8U9wvg9GStnnQECyULXRZIFrhMSaZc5kvmu8yTzEvy3bIqulK9Ck
    ePrB65esXqFVcvW73s6iWrl1w9tHro6oHVbRyQN7FNxBAq1nJCUxVM6zHISg1e4nZmn/+2Hz97DItgflm/73GX7/iaG3zBJT7i3cTpYV7iOUaJ
    z0cIfsQO3mATK8lf469bBrdvQFyRyerfDrzXPzgPjl0fvyY9rMbPWA/jjmCRZJHLKpJVXFaWrOyyA5K/vs0X380jz+qe9D9rciDOn14MkPnU+y
    bXuMzFZJU3OMYhXkzW+AAnMIw0N76/D6RetueqZLyVG28l463ceKuSZCWXhZKFLgskC1ymJFMu8yXzD+Y8PcniTtt/Zf1X0v+cyYG88H+HW9zk
    astd1/85XQXGMIS1ZG94zAecTZ6Id4fzPMOmyNNAL5P7Nk8Dd83onUvfWhaiXhMsgL6xLEBZjlPQe6RlClXJfOh3y/QCoGCeHhdY5iEIRNyq+u
    unbNyq8JPP/Nfz+dGe/6t5GhZBi5ZF6Fc/W4PW/7zJgbj16b287f/ptJrrU8COPgVsYjXZD+JacItTHE0yIq4GfTzKLn7GJ31a2MZbvMI6XuI5
    lvAED3EPdzCz/9zRqrSmzrZLqSmk7VppKmUrMJGJS2QkEc+qzKeqDkaPHKbAQmvsSF2wSjwjyyruOF27OW1ZWQf/fzsn/Olas/53GU8KSf8DUW
    h02iFo1v+CyYHujv+H0v9ukwPFjv+H0v+iyYG0fwq/43/nPygHt30DAx0Ouw==
    """
)

BTREE_BIG_ENDIAN = _unpacked(
    """
    eNrtli1sFFEQx+d/d3vXK4hKQhAlqSABcbuzX5cgKhAIkiIqKiqaQkNFA00/kiNBQKioQCAqEIiKCgSiAnGioiEVFRUkICogQTSkEnGa8Pbde9
    uZC4YgSNN7Yvfm/7uPt/OfmXdEdsFeg3DeXJtEFXt16+yVWx8nrxP9Ipqemn/5uVeTqOLu4+V3Dtd5WFB+1dCtVNHDdxyhW0OPTumYjmiPdmmb
    tmiDOrRIB+jiPbaxhU08wzIeYgb3MIkYN3ANY9D+jxJWFx6sLKyNh0kRNwjrqwsrNhAslizWjCVjzSLJIs1CyULNWpK1bLF71qZ6X2+T0nOv51
    rPvJ5pPfV6qvXE64nWY6/HWmev2zxQw6Y3KC5WjClyWs1rUUbrVLdatdSo5a2uDPjv4ypdpR0ExuwdUwOn+IpPOMAHvMMbvLJWz2Ead5Bboy+b
    j/6kE/pCh9TtUpc6/7wq9OIpifvMVPWS2VfdPO43CrD05PEjY2LpYbt4j3l262ERCJZLlmuWSZZplkqWapa4/Jf1K1gsWawZS8aaRZJFmoWShZ
    q1JLNBs2QmY32dlN7yemvA/6qrgRqNYQKB8/4I+9jFjm3zDpYwi/u2ySeWaY76pfHnOTDY96Yazd31mgmwLlgqWapZIlmiWSxZrBlLxppFkkWa
    hZKFZPp/VO/T5dvuU7BEskSzWLJYM5aMNYskizQLJRvYZ4vMnPJM10Xk/Y8G/K+5GghK/09wjEPslfYq/zfNKbBEs7RvR8NbvMaGfUMxHO7iNq
    T3LGc+65nPcuaznvksZz7rmc9y5rOe+SxnPuuZz3Lm20B43xbMBgU7yyvLHmbdwyx7mHUPs+xh1j3MsodZe8Xeq/7vjup9en/bmuWS5ZplsmaK
    HhT+B/7soCt0KPy/1T/OqWem/DEV9VDMg+IseI41LNqKMKfBf/4Hc5ZPmRvWuWGZG9a54UyyTLNUslR51PYetfWczb2eaz3zeqb11Oup1hOvJ1
    qPvR4PPL88n1ifTyzPJxeU/tfda1P++EGNznBdgCX8b7gaGBn6fyH9H3E10Bz6fyH9b7oaKKKbf+M/DdN4btdvVCqXcQ==
    """
)

LMDB = _unpacked(
    """
    eNrt2j+IHGUcxvG529n5v7OHgoWFBBG5IsV78/49ETlERCwsRCSIRcAcWoQYLlE0BBELiSJiYZEiRRA5xMJCRIKEEMTCwuKKIEEkhYWIiAYJYi
    HoZJN73pknhRY5sPh9i9333t/B3Xxu2X13uSTZrVjcXrn424WlZNgK7oqN5F/7+2bJf2z3+5cSSZIkSZIkSZIkSZL2qqU9ff+/dMvPWb55/yp9
    nd7y+0iSJEmSJEmSJEmSdLtaHqyWl7Yn25Of5jvzP9qd6WfT09OT04PTR6ar02Z6Nb2Uft+eS8+kr6eH0sfS/elKem1yeXJ+8mX7Uftue7x9pt
    1o72+b9tz899nl2YXZh7O3Z0dnT88enN07K2Zn5782l5ovmrPNm83h5skmNPc0aXNq/nO9U39en6nfqF+on6hNfXed1EfnP1bfVJ9Wp6vXqkPV
    45Wq7qr+Kg/Mfyi/Lj8p3y9PlAfLR8v95R3ln8XG/ErxVfFx8V7xcvFs8XCxWrTFtXx1/l1+Md/O38m38gP5Q/l9eZVfzVbm32bnsw+yU9mR7K
    nsgWxflmW/TOUxIP3fe+vO65+MTZPDLx55Ppns7taL2yJ56djm1traenJs87mtzeP7ri9pFuIs8MzHmeeZizPHMxtnlmcmzgzPdJxpnnVx1vFs
    Lc7WeKbiTNFMRRfFLiq6KHZR0UWxi4ouil1UdFHsoqKLYhcVXRS7qOii2EVFF8UuKrr0y6RazPLFbB0s/Wo8AUq/Gk9A0q/GE4D0q/EEHP1qPA
    FGvxpPQNGvxhNA9KvxBAz9ajwBwjoZBBgEMggwCGQQYBDIIMAgkEGAQSCDAINABgEGgQwCDAIZBBgEMggwCGTgYeDJwMPAk4GHgScDDwNPBh4G
    ngw8DDwZeBh4MvAw8GTgYeDJwMPAk4GDgSMDBwNHBg4GjgwcDBwZOBg4MnAwcGTgYODIwMHAkYGDgSMDBwNHBhYGlgwsDCwZWBhYMrAwsGRgYW
    DJwMLAkoGFgSUDCwNLBhYGlgwsDCwZGBgYMjAwMGRgYGDIwMDAkIGBgSEDAwNDBgYGhgwMDAwZGBgYMjAwMGSgYaDJQMNAk4GGgSYDDQNNBhoG
    mgw0DDQZaBhoMtAw0GSgYaDJQMNAk0EHg44MOhh0ZNDBoCODDgYdGXQw6Migg0FHBh0MOjLoYNCRQQeDjgw6GHRkMDhOksHgMEkGg6MkGQwOkm
    QwOEaSweAQSQaDIyQZDA6QZDA8PtJkcEhKknIxyW6cHHBwGO/Hw8F4P74sjvfjC8J4Pz4Vjvfjk8B4Pz78x/vxDz/ej5c83scF99eLNxNJuvgs
    4BVJkiRJkiRJkiRJkiRJkvY8+Z8HSZIkSZIkSZJud/8AtQgJog==
    """
)

LMDB_EMPTY = _unpacked(
    """
    eNrt2k0KwjAQBtCJ2WTX4om8ih5UPIn0Bt25VbFtqKBoERfKe4tJAvmB7D6YiEm51eOh36eYa+tQNvHSeRRvmvanAAAAAL4lLcr/6cG5+3Ve+P
    6U//OTewEAAIDPrWaza8RvT40/AQAAgP+Qxrrd5Vn+X0fXdPI/AAAA/Jyhe7/UvvpU0/7gAu/1I2w=
    """
)

GDBM = _unpacked(
    """
    eNrtmr9rU1EUx581ta3Sxp8YfwQCiqXbu/e2abKUGnSI0qJQ0FqqQ4xRiSlNDHZQpOYfaJcMiujkIFEXx7YE7GgQl3awS5cMKRTXiqI5590TIS
    nyakyIyfnC48s5nL73uT/ffaGfnl45ZOw3DLwMy7u0vwIfttLfDRaLxWKxWCwWi8VisVj/rTzs7Ozs7Ozs7Ozs7Ozs7OzN7m06bNd+2mf5aofl
    fb5/91NDX/HKZh50JBPh+DvTyu0xrP83+FnUdn9T6/zQymwIeFzCHk/BefEy1H8UjcFf63zBubEb2vuyyvHaWu++BPc5a/6eb5114D+cWBqB5y
    7aHK/NhfxjqJ8T1bb3TRvcp7fu7b1uwHPn67y+5gsHpqNTscg5acWO4rXW/jfrUVwA/rc2+9/lufYQ6mdt1i+Pn7oL9QOyNdbv8viHk9DerrL+
    2Vpf9EJ+tM7zM5DKzcBz47bXY/oW1J9pkfHaXPAeg/Z+a5D3YzQ/nASeUMX8eT4KeaNs/rg8e/F9enSb8YpMxcJ0voD9Ydcf988crtNknefnTv
    Muz+sjwLlh2t1/Evg+fVHRn/fckJ+osr3p4PtpuM+YzfUVSD26AfWdLbK+Ain3QWjvWoOsr2ymNwY8522OVzT/dQLqtyrmz8gA5LsbfL3sfP+Z
    64F25Wo0XkMrn/H88MQs70+3A/K3y/qz4HyG+5LX5nilgzevQn2hRb4X0kHHPmjvUkV/Tt6BfH/dz8M9ETyH2+z/bGZ1DOq/VH3+/3EC7nO8wd
    cjMJqJcCgevu8xIRA6EBBIHUgIlA4UjqMO+vEwrQPcgbw6wOPloA4GIfDpwAeBXwd+fCghCIuhBIEUgjAEcggCEUgiCEUgiyAYgTSCcATyCAIS
    SCQISSCTICiBVJKoJFJJopJW35Q6B6kkUUmkkkQlkUoSlUQqSVQSqSRRSaSSRCWRShKVRCpFVAqpFFEppFJEpawxKw0aUimiUkiliEohlSIqhV
    SKqBRSKaJSSKWISvnhu2+GxWKxWE0n+G4XBovFYrFYrGbRL46zfeM=
    """
)
