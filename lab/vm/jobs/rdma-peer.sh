# In the second machine: be there until the first one ends it.
number=2
. .vm/setup
while [ ! -e /run/finished ]; do sleep 1; done
echo done > /run/vm-done
tar cf /dev/vdc -C /run vm-done
