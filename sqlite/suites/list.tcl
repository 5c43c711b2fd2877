# Prints the files of SQLite's "veryquick" suite below the sources: testfixture list.tcl SOURCE
set source [file normalize [lindex $argv 0]]
set testdir [file join $source test]
# Not permutations.test itself, which would run them all.
set argv0 [file join $testdir list.test]
set argv {}
source [file join $testdir permutations.test]
foreach name [dict get $::testspec(veryquick) -files] {
  set path [file normalize [file join $testdir $name]]
  puts [string range $path [string length $source]+1 end]
}
