# `run`: one program, its status, power off.
setsid cttyhack @PROGRAM@
echo "@TOKEN@ $?"
poweroff -f
