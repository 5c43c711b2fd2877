# What SQLite's Tcl suite does with the files of its databases, done with volumes: see tcl.c. Loaded into
# testfixture before a test file.

# True when NAME is a database in a volume: its marker is there, and empty.
proc in_volume {name} {
  if {[catch {native_file size $name} size] || $size > 0} { return 0 }
  if {![native_file isfile $name]} { return 0 }
  volume exists $name
}

rename file native_file
proc file {verb args} {
  switch -- $verb {
    size {
      if {[llength $args]==1 && [in_volume [lindex $args 0]]} { return [volume size [lindex $args 0]] }
    }
    copy - rename {
      return [copy_or_rename $verb {*}$args]
    }
  }
  uplevel 1 [list native_file $verb {*}$args]
}

proc copy_or_rename {verb args} {
  native_file $verb {*}$args
  set names [lsearch -all -inline -not -regexp $args {^-(force|-)$}]
  if {[llength $names] != 2} return
  lassign $names from to
  if {[native_file isdirectory $to]} { set to [native_file join $to [native_file tail $from]] }
  if {![native_file isfile $to] || [native_file size $to] > 0} return
  # A marker was copied: so is its volume, if it has one.
  if {[volume exists $from]} {
    volume replace $to [volume read $from 0 -1]
  } else {
    volume delete $to
  }
}

# A file with what is in the volume.
proc copy_volume {name} {
  set copy [native_file join [pwd] .copy-[pid]-[incr ::volume_copies]]
  set channel [native_open $copy wb]
  puts -nonewline $channel [volume read $name 0 -1]
  native_close $channel
  return $copy
}

# Tcl reads and writes a copy, and what it wrote goes back when it closes the copy.
rename open native_open
proc open {name args} {
  set mode [lindex $args 0]
  if {[string match |* $name] || ![in_volume $name]} { return [uplevel 1 [list native_open $name {*}$args]] }
  set copy [copy_volume $name]
  set channel [native_open $copy {*}$args]
  if {$mode in {"" r rb RDONLY}} {
    native_file delete $copy
  } else {
    set ::volume_channels($channel) [list $name $copy]
  }
  return $channel
}

rename close native_close
proc close {channel args} {
  uplevel 1 [list native_close $channel {*}$args]
  if {![info exists ::volume_channels($channel)]} return
  lassign $::volume_channels($channel) name copy
  unset ::volume_channels($channel)
  set copied [native_open $copy rb]
  set bytes [read $copied]
  native_close $copied
  native_file delete $copy
  write_back $name $bytes
}

# Handles that are open go on, if the pages keep their size.
proc write_back {name bytes} {
  set old [volume read $name 16 2]
  if {[string range $bytes 16 17] eq $old} {
    volume write $name 0 $bytes [string length $bytes]
  } else {
    volume replace $name $bytes
  }
}

rename hexio_read native_hexio_read
proc hexio_read {name offset count} {
  if {![in_volume $name]} { return [native_hexio_read $name $offset $count] }
  string toupper [binary encode hex [volume read $name $offset $count]]
}

rename hexio_write native_hexio_write
proc hexio_write {name offset hex} {
  if {![in_volume $name]} { return [native_hexio_write $name $offset $hex] }
  set bytes [binary decode hex $hex]
  volume write $name $offset $bytes
  string length $bytes
}

rename md5file native_md5file
proc md5file {name args} {
  if {![in_volume $name]} { return [native_md5file $name {*}$args] }
  set copy [copy_volume $name]
  set hash [native_md5file $copy {*}$args]
  native_file delete $copy
  return $hash
}

# Where a test opens a database by the names of two VFSes of files, it has two of volumes. The suite calls the
# command sqlite_orig, and that is how the command calls itself to those who do not know how to use it.
namespace eval native {}
rename sqlite3 native::sqlite_orig
proc sqlite3 {args} {
  set at [lsearch -exact $args -vfs]
  if {$at >= 0 && [in_volume [lindex $args 1]]} {
    set names {unix pagestore-markers unix-none pagestore-markers-2}
    set name [lindex $args [expr {$at + 1}]]
    if {[dict exists $names $name]} { lset args [expr {$at + 1}] [dict get $names $name] }
  }
  namespace eval native [list sqlite_orig {*}$args]
}

# The suite asks what there is before it tests it. Volumes have no WAL and cannot be mapped into memory. But some
# files ask in order to write what this SQLite does not understand into a header, and it does understand WAL.
if {[native_file tail [lindex $argv 0]] ni {corruptA.test rdonly.test}} { set ::sqlite_options(wal) 0 }
set ::sqlite_options(mmap) 0
