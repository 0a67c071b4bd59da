"""What happens to mail: taken in, relayed, copied, tried again. Sockets and disks are behind ports."""
